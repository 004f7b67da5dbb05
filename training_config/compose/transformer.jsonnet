// Two kinds of contextual vectors in one text field embedder: the layers of our language models (`ldnet`) beside a
// transformer (AllenNLP's `pretrained_transformer_mismatched`), under our tagger.
//
//     LDNET_SETTINGS='{"train": "wnut17train.conll", "dev": "emerging.dev.conll", "test": "emerging.test.annotated"}' \
//       allennlp train training_config/compose/transformer.jsonnet -s out/transformer --include-package ldnet_allennlp
//     allennlp predict out/transformer/model.tar.gz sentences.jsonl --include-package ldnet_allennlp
//
// The archive loads without the language models' archives. The transformer's folder (or the network) must be there:
// AllenNLP reads the word pieces from it.
//
// Hardware: a GPU for a transformer of the usual size; one CPU core and 2 GiB of memory for that of the score.
// Score: F1 7.8 on test (dev 14.6) on WNUT-17 with a random transformer, which shows that the parts fit together and
// not what transformers can do: two layers of 64 that have seen no text, 4,000 word pieces of the training data; with
//     "transformer_dim": 64, "max_length": 128, "transformer_learning_rate": 0.0005, "learning_rate": 0.003,
//     "num_epochs": 4
// and language models of OpenStax ("num_layers": 3, "hidden_size": 60, "embedding_dim": 100, "projection_dim": 100,
// "cutoffs": [2000, 10000], "tail_samples": 512, "num_epochs": 1: perplexity on dev 245.5 forward, 250.5 backward):
// 0.9 minutes of CPU time on one core, one seed (13370), far from converged. Measured by benchmarks/compositions.py.
local experiment = import 'experiment.libsonnet';
local settings = (import '../settings.libsonnet')(experiment.defaults {
  // A name that the transformers library knows, or a folder, and the size of its vectors.
  transformer: 'bert-base-cased',
  transformer_dim: 768,
  // Longer sentences are read in pieces of so many word pieces.
  max_length: 512,
  transformer_learning_rate: 2e-5,
  // Archives of lm_forward.jsonnet and lm_backward.jsonnet.
  lm_forward: 'out/lm_forward/model.tar.gz',
  lm_backward: 'out/lm_backward/model.tar.gz',
  // What the language models' layers are projected to.
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
