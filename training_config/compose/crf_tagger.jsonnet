// allennlp-models' `crf_tagger` over the layers of language models (`ldnet`) and word vectors.
//
//     LDNET_SETTINGS='{"train": "wnut17train.conll", "dev": "emerging.dev.conll", "test": "emerging.test.annotated"}' \
//       allennlp train training_config/compose/crf_tagger.jsonnet -s out/crf_tagger --include-package ldnet_allennlp
//     allennlp predict out/crf_tagger/model.tar.gz sentences.jsonl \
//       --predictor ldnet_tagger --include-package ldnet_allennlp
//
// The default predictor of `crf_tagger` needs a spaCy model, so pass `--predictor`.
//
// The loss of `crf_tagger` has no penalty for the layers' gates; the "layer_selection" regularizer adds one
// (docs/layer_selection.md). `ldnet_tagger` has this penalty and the same parameters, so it can load this archive (-o
// '{"model.type": "ldnet_tagger"}'). `allennlp ldnet-prune` removes layers with gate 0 from archives of either model.
//
// Hardware: one CPU core and 2 GiB of memory.
// Score: test F1 3.7 (dev 6.8) on WNUT-17, with "learning_rate": 0.003, "num_epochs": 4, "batch_size": 10, the
// defaults, and the OpenStax language models of transformer.jsonnet. 1.2 minutes of CPU time on one core, one seed
// (13370), best epoch 4, far from converged (training F1 39.6). Measured by benchmarks/compositions.py.
local experiment = import 'experiment.libsonnet';
local settings = (import '../settings.libsonnet')(experiment.defaults {
  // Archives of language models; see ner.libsonnet.
  lm_forward: 'models/english/forward.tar.gz',
  lm_backward: 'models/english/backward.tar.gz',
  min_count: 2,
  word_dim: 100,
  // Size of the projected language model layers.
  projection_dim: 100,
  word_hidden: 100,
  dropout: 0.3,
});

experiment.config(settings, '+f1-measure-overall') {
  dataset_reader: {
    type: 'conll_columns',
    target_label_encoding: 'BIOUL',
    token_indexers: {
      tokens: { type: 'single_id', lowercase_tokens: true },
      ldnet: { type: 'ldnet' },
    },
  },
  vocabulary: { min_count: { tokens: settings.min_count } },
  model: {
    type: 'crf_tagger',
    label_encoding: 'BIOUL',
    dropout: settings.dropout,
    text_field_embedder: {
      token_embedders: {
        tokens: { type: 'embedding', embedding_dim: settings.word_dim },
        ldnet: {
          type: 'ldnet',
          forward: { pretrained_file: settings.lm_forward },
          backward: { pretrained_file: settings.lm_backward },
          projection_dim: settings.projection_dim,
          dropout: settings.dropout,
        },
      },
    },
    encoder: {
      type: 'lstm',
      input_size: settings.word_dim + settings.projection_dim,
      hidden_size: settings.word_hidden,
      bidirectional: true,
    },
  },
}
