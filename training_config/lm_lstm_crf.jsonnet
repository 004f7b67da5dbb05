// LM-LSTM-CRF (Liu et al., AAAI 2018, arXiv 1709.04109): character LSTMs over the whole sentence, highway layers, word
// vectors, a BiLSTM and a CRF. During training, both character LSTMs also predict the next (previous) word; prediction
// skips this part.
//
//     LDNET_SETTINGS='{"train": "train.conll", "dev": "dev.conll", "test": "test.conll", "vectors": "glove.txt"}' \
//       allennlp train training_config/lm_lstm_crf.jsonnet -s out/lm_lstm_crf --include-package ldnet_allennlp
//
// Hardware: a GPU for the published sizes; one CPU core and 1.2 GiB of memory for the sizes of the score below.
// Score: test F1 14.7 (dev 17.6) on WNUT-17 with co-training, and 21.4 (dev 24.7) without it ("lambda_0": 0). Measured
// without word vectors, one seed, 10 minutes on one CPU thread each, with
//     "char_hidden": 100, "word_hidden": 100, "min_count": 2, "dropout": 0.3, "num_epochs": 16
// Co-training does not help on 3,400 sentences without word vectors. In both runs, dev F1 still moves by up to 10
// points between epochs.
// Published: mean F1 on CoNLL-2003 (14,000 sentences, GloVe) of 91.24 with co-training, 90.95 without it, and 90.79
// without highway layers. These numbers are from the original's README, which corrects the paper.
//
// The settings are the defaults of the original's train_wc.py with the options that its README lists for NER
// (--caseless --fine_tune --high_way --co_train): characters 30 and 300 per direction, words 100, BiLSTM 150 per
// direction (--word_hidden 300 counts both), one highway layer, batches of 10, SGD with momentum 0.9, gradients clipped
// at 5.
// Learning rate 0.015 and dropout 0.55 are from its last revision; earlier ones have 0.01 and 0.5.
//
// Differences from the original:
// - The CRF's transitions do not depend on the word (the original's --small_crf).
// - The loss ignores padding.
// - 15 epochs without improvement end the training, even before epoch 50 (--least_iters).
local library = import 'ner.libsonnet';
local settings = (import 'settings.libsonnet')(library.defaults {
  char_hidden: 300,
  // Words and characters with fewer occurrences in the training data are unknown (--mini_count).
  min_count: 5,
  dropout: 0.55,
  num_epochs: 200,
  // Highway layers between character states and BiLSTM, and between character states and softmax (--highway_layers).
  num_highway_layers: 1,
  // Weight of the language models' loss (--lambda0). 0 trains without it (no --co_train).
  lambda_0: 1.0,
  // null: a full softmax. A list such as [2000, 10000]: an adaptive softmax.
  cutoffs: null,
});
local ner = library.config(settings);
local without(object, name) = { [key]: object[key] for key in std.objectFields(object) if key != name };

ner {
  dataset_reader+: {
    token_indexers: without(ner.dataset_reader.token_indexers, 'ldnet') + {
      // The target words: only those of the training data. The namespace 'tokens' also has all words with a vector.
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
