// A forward language model: densely connected LSTM layers with layer-wise dropout, adaptive softmax (LD-Net,
// sections 3.1 and 3.2; train_lm.py of the original).
//
//     LDNET_SETTINGS='{"train": "lm/train.txt", "valid": "lm/valid.txt"}' \
//       allennlp train training_config/lm_forward.jsonnet -s out/lm_forward --include-package ldnet_allennlp
//
// Hardware: the published sizes, which are the defaults, want a GPU; two CPU cores do for
// {"num_layers": 4, "hidden_size": 100, "projection_dim": 200} and a few million words.
// It departs from the published settings (lm_one_billion.jsonnet) in two points that suit smaller texts: the learning
// rate falls when the perplexity on held-out text (and not on the training text) stops falling, and so does training
// stop.
local lm = import 'lm.libsonnet';

lm.config((import 'settings.libsonnet')(lm.defaults), 'forward')
