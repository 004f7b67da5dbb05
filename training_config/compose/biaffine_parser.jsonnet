// Dependency parser: `ld_rnn`, bidirectional, as the encoder of allennlp-models' `biaffine_parser` (Dozat and Manning
// 2017), over word vectors, character LSTMs of the sentence and the part-of-speech tags of the file.
//
//     LDNET_SETTINGS='{"train": "en_ewt-ud-train.conllu", "dev": "en_ewt-ud-dev.conllu", "test": null}' \
//       allennlp train training_config/compose/biaffine_parser.jsonnet -s out/parser --include-package ldnet_allennlp
//     allennlp evaluate out/parser/model.tar.gz en_ewt-ud-test.conllu --include-package ldnet_allennlp
//
// The reader, from allennlp-models, needs uncompressed files. The parser's predictor needs a spaCy model.
//
// Hardware: one CPU core and 2 GiB of memory.
// Score: test LAS 77.0 and UAS 80.7 (dev 76.9 and 80.5) on UD English EWT without punctuation and symbols, with
// "learning_rate": 0.002, "num_epochs": 2 and the defaults. 2.9 minutes of CPU time on one core, one seed (13370), far
// from converged. Measured by benchmarks/compositions.py.
local experiment = import 'experiment.libsonnet';
local settings = (import '../settings.libsonnet')(experiment.defaults {
  // Maximum number of sentences per file. null: all.
  max_instances: null,
  min_count: 2,
  word_dim: 100,
  char_dim: 30,
  char_hidden: 30,
  pos_dim: 30,
  // Size (growth rate) and number of the encoder's layers, per direction.
  hidden_size: 75,
  num_layers: 3,
  layer_dropout: 0.1,
  arc_dim: 200,
  tag_dim: 50,
  dropout: 0.3,
});
local input_dim = settings.word_dim + 2 * settings.char_hidden;

experiment.config(settings, '+LAS', ['words']) {
  dataset_reader: {
    type: 'universal_dependencies',
    max_instances: settings.max_instances,
    token_indexers: {
      tokens: { type: 'single_id', lowercase_tokens: true },
      token_characters: { type: 'characters', min_padding_length: 1 },
    },
  },
  vocabulary: { min_count: { tokens: settings.min_count } },
  model: {
    type: 'biaffine_parser',
    text_field_embedder: {
      token_embedders: {
        tokens: { type: 'embedding', embedding_dim: settings.word_dim },
        token_characters: {
          type: 'sentence_character_lstm',
          embedding_dim: settings.char_dim,
          hidden_size: settings.char_hidden,
        },
      },
    },
    pos_tag_embedding: { embedding_dim: settings.pos_dim, vocab_namespace: 'pos' },
    encoder: {
      type: 'ld_rnn',
      input_size: input_dim + settings.pos_dim,
      hidden_size: settings.hidden_size,
      num_layers: settings.num_layers,
      layer_dropout: settings.layer_dropout,
      dropout: settings.dropout,
      bidirectional: true,
    },
    arc_representation_dim: settings.arc_dim,
    tag_representation_dim: settings.tag_dim,
    dropout: settings.dropout,
    input_dropout: settings.dropout,
  },
}
