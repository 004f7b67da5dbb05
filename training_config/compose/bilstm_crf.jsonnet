// BiLSTM-CRF of the PyTorch tutorial "Advanced: Making Dynamic Decisions and the Bi-LSTM CRF": word vectors, a BiLSTM
// and a CRF with start and stop transitions. The reader, the tagger and its batched CRF are from this package.
//
//     LDNET_SETTINGS='{"train": "wnut17train.conll", "dev": "emerging.dev.conll", "test": "emerging.test.annotated"}' \
//       allennlp train training_config/compose/bilstm_crf.jsonnet -s out/bilstm_crf --include-package ldnet_allennlp
//     allennlp predict out/bilstm_crf/model.tar.gz sentences.jsonl --include-package ldnet_allennlp
//
// "loss": "structured_perceptron" is the tutorial's exercise: the score of the best path minus the score of the gold
// path.
//
// Hardware: one CPU core and 1 GiB of memory.
// Score: test F1 5.6 (dev 9.5) on WNUT-17, with "learning_rate": 0.003, "num_epochs": 10 and the defaults. Structured
// perceptron: 3.8 (dev 7.7). 0.6 minutes of CPU time each on one core, one seed (13370), best epoch 9. The tagger reads
// whole words only, and 76 % of the words in the test entities are unknown (fewer than two occurrences in the training
// data). Measured by benchmarks/compositions.py.
local experiment = import 'experiment.libsonnet';
local settings = (import '../settings.libsonnet')(experiment.defaults {
  // Files with CoNLL columns: the word first, the tag last, in any tag scheme.
  loss: 'negative_log_likelihood',
  min_count: 2,
  // The tutorial has 5, and 4 for both directions together.
  word_dim: 100,
  word_hidden: 100,
  dropout: 0.3,
});

experiment.config(settings, '+f1-measure-overall') {
  dataset_reader: {
    type: 'conll_columns',
    // The tutorial's tags.
    target_label_encoding: 'BIO',
    token_indexers: { tokens: 'single_id' },
  },
  vocabulary: { min_count: { tokens: settings.min_count } },
  model: {
    type: 'ldnet_tagger',
    label_encoding: 'BIO',
    loss: settings.loss,
    dropout: settings.dropout,
    text_field_embedder: {
      token_embedders: { tokens: { type: 'embedding', embedding_dim: settings.word_dim } },
    },
    encoder: {
      type: 'lstm',
      input_size: settings.word_dim,
      hidden_size: settings.word_hidden,
      bidirectional: true,
    },
  },
}
