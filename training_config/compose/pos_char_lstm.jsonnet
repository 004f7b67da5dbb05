// LSTM part-of-speech tagger of the PyTorch tutorial "Sequence Models and Long Short-Term Memory Networks", with the
// character features of its exercise: word vectors and the last state of a character LSTM, an LSTM over the sentence,
// and a softmax per word. The model is AllenNLP's `simple_tagger`; the reader is from this package.
//
//     LDNET_SETTINGS='{"train": "en_ewt-ud-train.conllu.gz", "dev": "en_ewt-ud-dev.conllu.gz", "test": null}' \
//       allennlp train training_config/compose/pos_char_lstm.jsonnet -s out/pos --include-package ldnet_allennlp
//     allennlp predict out/pos/model.tar.gz sentences.jsonl --predictor ldnet_tagger --include-package ldnet_allennlp
//
// The default predictor of `simple_tagger` needs a spaCy model, so pass `--predictor`.
//
// Hardware: one CPU core and 2 GiB of memory.
// Score: test accuracy 92.2 (dev 91.7) on the UPOS tags of UD English EWT, with "learning_rate": 0.003, "num_epochs": 5
// and the defaults. 1.4 minutes of CPU time on one core, one seed (13370), best epoch 4. Measured by
// benchmarks/compositions.py.
local experiment = import 'experiment.libsonnet';
local settings = (import '../settings.libsonnet')(experiment.defaults {
  // CoNLL-U files. Other columns: 'xpos', or a feature such as 'feats:Number' (with a `missing_tag`).
  tag_column: 'upos',
  missing_tag: null,
  // Words with fewer occurrences are unknown; their characters still count.
  min_count: 2,
  // The tutorial uses 6 for all sizes.
  word_dim: 100,
  char_dim: 30,
  char_hidden: 50,
  word_hidden: 100,
});

experiment.config(settings, '+accuracy') {
  dataset_reader: {
    type: 'conll_columns',
    layout: 'conllu',
    tag_column: settings.tag_column,
    missing_tag: settings.missing_tag,
    label_encoding: null,
    token_indexers: {
      tokens: { type: 'single_id', lowercase_tokens: true },
      token_characters: { type: 'characters', min_padding_length: 1 },
    },
  },
  vocabulary: { min_count: { tokens: settings.min_count } },
  model: {
    type: 'simple_tagger',
    text_field_embedder: {
      token_embedders: {
        tokens: { type: 'embedding', embedding_dim: settings.word_dim },
        token_characters: {
          type: 'character_encoding',
          embedding: { embedding_dim: settings.char_dim, vocab_namespace: 'token_characters' },
          encoder: { type: 'lstm', input_size: settings.char_dim, hidden_size: settings.char_hidden },
        },
      },
    },
    encoder: {
      type: 'lstm',
      input_size: settings.word_dim + settings.char_hidden,
      hidden_size: settings.word_hidden,
    },
  },
}
