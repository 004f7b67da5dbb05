// "Tie or break" tagger on labels from dictionaries (AutoNER; Shang et al. 2018, arXiv 1809.03599).
//
//     allennlp ldnet-annotate articles/ --dictionary core.tsv --phrases phrases.txt -o train.conll
//     LDNET_SETTINGS='{"train": "train.conll", "dev": "gold_dev.conll", "test": "gold_test.conll"}' \
//       allennlp train training_config/autoner.jsonnet -s out/autoner --include-package ldnet_allennlp
//     allennlp evaluate out/autoner/model.tar.gz gold_test.conll --include-package ldnet_allennlp
//
// For AutoNER's files (raw text with one word per line, gold sentences in .ck files), replace the first command with
//
//     allennlp ldnet-annotate raw_text.txt --input tokens --dictionary dict_core.txt --phrases dict_full.txt -o train.conll
//     allennlp ldnet-annotate truth_dev.ck --input ck -o gold_dev.conll
//     allennlp ldnet-annotate truth_test.ck --input ck -o gold_test.conll
//
// Hardware: one CPU core and 2 GiB of memory without language models.
// Score: see docs/distant.md.
//
// Settings: those of ner.jsonnet, with the defaults of distant.libsonnet. "lm_forward" and "lm_backward" add language
// models.
local distant = import 'distant.libsonnet';

distant.config((import 'settings.libsonnet')(distant.defaults)) { model+: { type: 'tie_or_break_tagger' } }
