// A tagger that reads the layers of two frozen language models: a char-LSTM, word vectors, and the language
// models, then a BiLSTM and a CRF (LD-Net; train_seq.py of the original).
//
//     LDNET_SETTINGS='{"train": "train.conll", "dev": "dev.conll", "test": "test.conll"}' \
//       allennlp train training_config/ner.jsonnet -s out/ner --include-package ldnet_allennlp
//
// Hardware: two CPU cores and 4 GiB of memory for language models of 10 x 300.
// The sizes and the optimizer are the published ones. It departs from them in `num_epochs` and `patience`:
// the original trains for 200 epochs at most and stops after 15 without a better one.
local ner = import 'ner.libsonnet';

ner.config((import 'settings.libsonnet')(ner.defaults))
