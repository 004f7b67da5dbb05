// Two kinds of contextual vectors in one text field embedder: the layers of language models (`ldnet`) and a transformer
// (AllenNLP's `pretrained_transformer_mismatched`), under `ldnet_tagger`.
//
//     LDNET_SETTINGS='{"train": "wnut17train.conll", "dev": "emerging.dev.conll", "test": "emerging.test.annotated"}' \
//       allennlp train training_config/compose/transformer.jsonnet -s out/transformer --include-package ldnet_allennlp
//     allennlp predict out/transformer/model.tar.gz sentences.jsonl --include-package ldnet_allennlp
//
// The archive loads without the archives of the language models. AllenNLP reads the transformer's word pieces from its
// folder, or downloads them.
//
// Hardware: a GPU for a transformer of the usual size; one CPU core and 2 GiB of memory for the one below.
// Score: test F1 7.8 (dev 14.6) on WNUT-17 with a random transformer: two layers of 64, not pre-trained, 4,000 word
// pieces of the training data. This shows that the parts fit together, not how good transformers are. Settings:
//     "transformer_dim": 64, "max_length": 128, "transformer_learning_rate": 0.0005, "learning_rate": 0.003,
//     "num_epochs": 4
// Language models of OpenStax: "num_layers": 3, "hidden_size": 60, "embedding_dim": 100, "projection_dim": 100,
// "cutoffs": [2000, 10000], "tail_samples": 512, "num_epochs": 1; dev perplexity 245.5 forward and 250.5 backward.
// 0.9 minutes of CPU time on one core, one seed (13370), far from converged. Measured by benchmarks/compositions.py.
local experiment = import 'experiment.libsonnet';
local settings = (import '../settings.libsonnet')(experiment.defaults {
  // Name (as in the transformers library) or folder of the transformer, and the size of its vectors.
  transformer: 'bert-base-cased',
  transformer_dim: 768,
  // Longer sentences are split into segments of this many word pieces.
  max_length: 512,
  transformer_learning_rate: 2e-5,
  // Archives of language models; see ner.libsonnet.
  lm_forward: 'models/english/forward.tar.gz',
  lm_backward: 'models/english/backward.tar.gz',
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
      transformer: {
        type: 'pretrained_transformer_mismatched',
        model_name: settings.transformer,
        max_length: settings.max_length,
      },
      ldnet: { type: 'ldnet' },
    },
  },
  model: {
    type: 'ldnet_tagger',
    label_encoding: 'BIOUL',
    dropout: settings.dropout,
    text_field_embedder: {
      token_embedders: {
        transformer: {
          type: 'pretrained_transformer_mismatched',
          model_name: settings.transformer,
          max_length: settings.max_length,
        },
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
      input_size: settings.transformer_dim + settings.projection_dim,
      hidden_size: settings.word_hidden,
      bidirectional: true,
    },
  },
  trainer+: {
    optimizer+: {
      parameter_groups: [[['transformer_model'], { lr: settings.transformer_learning_rate }]],
    },
  },
}
