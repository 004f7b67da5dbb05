// Tagger on top of two frozen language models: character LSTM, word vectors and language models, then a BiLSTM and a
// CRF (LD-Net; train_seq.py of the original).
//
//     LDNET_SETTINGS='{"train": "train.conll", "dev": "dev.conll", "test": "test.conll"}' \
//       allennlp train training_config/ner.jsonnet -s out/ner --include-package ldnet_allennlp
//
// Hardware: two CPU cores and 4 GiB of memory for language models of 10 x 300.
// Score: not measured with the defaults; docs/results.md has smaller taggers.
//
// Settings: see ner.libsonnet. The sizes and the optimizer are the published ones. "num_epochs" and "min_count" differ:
// the published taggers train for up to 200 epochs, and words without a vector are known from six occurrences on.
local ner = import 'ner.libsonnet';

ner.config((import 'settings.libsonnet')(ner.defaults))
