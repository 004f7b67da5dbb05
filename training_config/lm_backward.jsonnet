// Backward language model: reads the text from its end to its start.
//
//     LDNET_SETTINGS='{"train": "lm/train.txt", "valid": "lm/valid.txt"}' \
//       allennlp train training_config/lm_backward.jsonnet -s out/lm_backward --include-package ldnet_allennlp
//
// Hardware and differences from the paper: see lm_forward.jsonnet.
local lm = import 'lm.libsonnet';

lm.config((import 'settings.libsonnet')(lm.defaults), 'backward')
