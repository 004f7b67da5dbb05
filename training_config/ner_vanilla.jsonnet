// Tagger of ner.jsonnet without language models, for comparison.
//
//     LDNET_SETTINGS='{"train": "train.conll", "dev": "dev.conll", "test": "test.conll"}' \
//       allennlp train training_config/ner_vanilla.jsonnet -s out/ner_vanilla --include-package ldnet_allennlp
//
// Hardware: two CPU cores and 2 GiB of memory.
// Score: see docs/results.md.
//
// Settings: those of ner.jsonnet.
local library = import 'ner.libsonnet';

library.without_language_models(library.config((import 'settings.libsonnet')(library.defaults)))
