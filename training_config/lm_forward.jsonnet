// Forward language model: densely connected LSTM layers with layer-wise dropout and an adaptive softmax (LD-Net,
// sections 3.1 and 3.2; train_lm.py of the original).
//
//     LDNET_SETTINGS='{"train": "lm/train.txt", "valid": "lm/valid.txt"}' \
//       allennlp train training_config/lm_forward.jsonnet -s out/lm_forward --include-package ldnet_allennlp
//
// Hardware: a GPU for the published sizes, which are the defaults. Two CPU cores are enough for a few million words
// with {"num_layers": 4, "hidden_size": 100, "projection_dim": 200}.
//
// Settings: see lm.libsonnet. One difference from the published run (lm_one_billion.jsonnet), for smaller texts: the
// perplexity of the validation text, not of the training text, lowers the learning rate and ends the training.
local lm = import 'lm.libsonnet';

lm.config((import 'settings.libsonnet')(lm.defaults), 'forward')
