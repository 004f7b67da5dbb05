// `ldnet_tagger` with character LSTMs and an `ld_rnn` encoder on data from AllenNLP's own readers: `conll2003`, or,
// with the setting "reader", any other reader with fields `tokens` and `tags`.
//
//     LDNET_SETTINGS='{"train": "FIN5.txt", "dev": null, "test": "FIN3.txt"}' \
//       allennlp train training_config/compose/upstream_reader.jsonnet -s out/ner --include-package ldnet_allennlp
//     LDNET_SETTINGS='{"train": "train.txt", "dev": "dev.txt", "test": null,
//                      "reader": {"type": "sequence_tagging"}, "label_encoding": null}' \
//       allennlp train training_config/compose/upstream_reader.jsonnet -s out/tags --include-package ldnet_allennlp
//     allennlp predict out/tags/model.tar.gz sentences.jsonl --include-package ldnet_allennlp
//
// For `universal_dependencies`, whose fields are `words` and `pos_tags`, use `conll_columns` instead.
//
// Hardware: one CPU core and 2 GiB of memory.
// Score: test F1 77.2 on the SEC filings, trained on FIN5.txt and tested on FIN3.txt (no development data; the last
// epoch counts), with "learning_rate": 0.003, "num_epochs": 10 and the defaults. 0.8 minutes of CPU time on one core,
// one seed (13370). Measured by benchmarks/compositions.py. `conll2003` cannot convert these files to BIOUL, because it
// also converts the chunk tags, which they lack.
local experiment = import 'experiment.libsonnet';
local settings = (import '../settings.libsonnet')(experiment.defaults {
  // Dataset reader, without token indexers.
  reader: { type: 'conll2003' },
  // Tag scheme of the reader's tags; null if the tags are not spans.
  label_encoding: 'IOB1',
  min_count: 2,
  word_dim: 100,
  char_dim: 30,
  char_hidden: 50,
  // Size (growth rate) and number of the encoder's layers, per direction.
  hidden_size: 50,
  num_layers: 2,
  layer_dropout: 0.1,
  dropout: 0.3,
});
local metric = if settings.label_encoding == null then '+accuracy' else '+f1-measure-overall';

experiment.config(settings, metric) {
  dataset_reader: settings.reader {
    token_indexers: {
      tokens: { type: 'single_id', lowercase_tokens: true },
      token_characters: { type: 'characters', min_padding_length: 1 },
    },
  },
  vocabulary: { min_count: { tokens: settings.min_count } },
  model: {
    type: 'ldnet_tagger',
    label_encoding: settings.label_encoding,
    dropout: settings.dropout,
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
    encoder: {
      type: 'ld_rnn',
      input_size: settings.word_dim + 2 * settings.char_hidden,
      hidden_size: settings.hidden_size,
      num_layers: settings.num_layers,
      layer_dropout: settings.layer_dropout,
      bidirectional: true,
    },
  },
}
