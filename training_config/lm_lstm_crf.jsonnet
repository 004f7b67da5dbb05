// LM-LSTM-CRF (Liu et al., AAAI 2018, arXiv 1709.04109): character LSTMs over the whole sentence, highway layers, word
// vectors, a BiLSTM and a CRF, with character language models trained beside: both character LSTMs also predict the
// next (previous) word. Nothing of the language models is computed in prediction.
//
//     LDNET_SETTINGS='{"train": "train.conll", "dev": "dev.conll", "test": "test.conll", "vectors": "glove.txt"}' \
//       allennlp train training_config/lm_lstm_crf.jsonnet -s out/lm_lstm_crf --include-package ldnet_allennlp
//
// Hardware: one CPU core and 1.2 GiB of memory at the sizes of the score below; a GPU for the published ones.
// Score: WNUT-17 without word vectors, one CPU thread, one seed, 10 minutes of CPU time each, with
//     "char_hidden": 100, "word_hidden": 100, "min_count": 2, "dropout": 0.3, "num_epochs": 16
// test F1 14.7 (dev 17.6) with co-training, and 21.4 (dev 24.7) without ("lambda_0": 0). So co-training did not help on
// 3,400 sentences without vectors; F1 on dev still moved by 10 points from one epoch to the next, in both. Published are,
// with GloVe on CoNLL-2003 (14,000 sentences), a mean F1 of 91.24 with and of 90.95 without co-training, and of 90.79
// without highway layers (the original's README, which corrects the paper's numbers).
//
// The settings are the defaults of the original's train_wc.py with the options that its README gives for NER
// (--caseless --fine_tune --high_way --co_train): characters 30 and 300 a direction, words 100, BiLSTM 150 a direction
// (--word_hidden 300 is that of both), one highway layer, batches of 10, SGD with momentum 0.9, gradients clipped at 5.
// Learning rate 0.015 and dropout 0.55 are those of its last revision; earlier ones have 0.01 and 0.5. Different are:
// the CRF's transitions do not depend on the word (the original's --small_crf); nothing is predicted at padding; and 15
// epochs without a better one end the training also before epoch 50 (--least_iters).
local library = import 'ner.libsonnet';
local settings = (import 'settings.libsonnet')(library.defaults {
  char_hidden: 300,
  // Words and characters that are rarer in the training data are unknown (--mini_count).
  min_count: 5,
  dropout: 0.55,
  num_epochs: 200,
  // Highway layers between character states and BiLSTM, and between character states and softmax (--highway_layers).
  num_highway_layers: 1,
  // The weight of the language models' loss (--lambda0). 0 trains without them (no --co_train).
  lambda_0: 1.0,
  // [2000, 10000], say, for an adaptive softmax; null for a full one.
  cutoffs: null,
});
local ner = library.config(settings);
local without(object, name) = { [key]: object[key] for key in std.objectFields(object) if key != name };

ner {
  dataset_reader+: {
    token_indexers: without(ner.dataset_reader.token_indexers, 'ldnet') + {
      // The words to predict: those of the training data. The namespace 'tokens' also has all words with a vector.
      lm_words: { type: 'single_id', namespace: 'lm_words', lowercase_tokens: settings.lowercase },
    },
  },
  vocabulary+: {
    min_count+: { token_characters: settings.min_count, lm_words: settings.min_count },
  },
  model+: {
    text_field_embedder+: {
      token_embedders: without(ner.model.text_field_embedder.token_embedders, 'ldnet') + {
        token_characters: {
          type: 'sentence_character_lstm',
          embedding_dim: settings.char_dim,
          hidden_size: settings.char_hidden,
          num_highway_layers: settings.num_highway_layers,
          dropout: settings.dropout,
          embedding_dropout: settings.dropout,
        },
        lm_words: { type: 'empty' },
      },
    },
    encoder+: { input_size: settings.word_dim + 2 * settings.char_hidden },
    co_training: {
      indexer: 'lm_words',
      lambda_0: settings.lambda_0,
      num_highway_layers: settings.num_highway_layers,
      dropout: settings.dropout,
      cutoffs: settings.cutoffs,
    },
  },
}
