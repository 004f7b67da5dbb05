// Layer selection: continues training a tagger of ner.jsonnet, with one gate per language model layer, until at most
// `lambda_1` layers remain (LD-Net, section 3.3; prune_sparse_seq.py of the original).
//
//     LDNET_SETTINGS='{"tagger": "out/ner", "train": "train.conll", "dev": "dev.conll", "test": "test.conll"}' \
//       allennlp train training_config/ner_select.jsonnet -s out/ner_select --include-package ldnet_allennlp
//     allennlp ldnet-prune out/ner_select/model.tar.gz out/pruned/model.tar.gz
//
// Hardware: two CPU cores and 4 GiB of memory for language models of 10 x 300.
// Score: not measured with the defaults; docs/results.md has smaller taggers.
//
// Settings: those of ner.jsonnet, with the sizes of the trained tagger, and the ones below. The archives of the
// language models are not needed: the tagger's archive contains the models.
local library = import 'ner.libsonnet';
local settings = (import 'settings.libsonnet')(library.defaults {
  // Serialization directory of the trained tagger.
  tagger: 'out/ner',
  // Weight of the penalty, and maximum number of layers in both directions together.
  lambda_0: 0.05,
  lambda_1: 2,
  // Replaces lambda_1: maximum multiply-adds per word of the language models and their projection.
  max_multiply_adds: null,
  // Learning rate of the gates, which have further to move than weights. null: the same as the weights.
  gate_learning_rate: null,
  // Points [epoch, value] for lambda_0, lambda_1 or max_multiply_adds, with linear interpolation. null: constant, or
  // with exact_budget a budget that falls from all layers in the first half of the epochs.
  // {"lambda_1": [[0, 16], [4, 2]]} removes layers step by step, so that the gates do not all fall together.
  schedule: null,
  // true: keep exactly as many layers as the budget allows, for any lambda_0. false: the published penalty.
  exact_budget: false,
});
local ner = library.config(settings);

ner {
  vocabulary: { type: 'from_files', directory: settings.tagger + '/vocabulary' },
  model+: {
    text_field_embedder+: {
      token_embedders+: {
        ldnet+: {
          // The tagger's vocabulary contains their architecture.
          [if settings.lm_backward == null then 'bidirectional' else 'forward']: {},
          [if settings.lm_backward != null then 'backward']: {},
          lambda_0: settings.lambda_0,
          [if settings.max_multiply_adds == null then 'lambda_1']: settings.lambda_1,
          [if settings.max_multiply_adds != null then 'max_multiply_adds']: settings.max_multiply_adds,
        },
      },
    },
    // All weights come from the trained tagger. The gates are new and start at 1.
    initializer: {
      regexes: [['.*', { type: 'pretrained', weights_file_path: settings.tagger + '/best.th' }]],
    },
  },
  trainer+: {
    optimizer: {
      type: 'proximal',
      optimizer: ner.trainer.optimizer,
      [if settings.gate_learning_rate != null then 'parameter_groups']: [
        [['(^|\\.)gates$'], { lr: settings.gate_learning_rate }],
      ],
    },
    callbacks: [
      {
        type: 'layer_selection',
        exact_budget: settings.exact_budget,
        [if settings.schedule != null then 'schedule']: settings.schedule,
      },
    ],
  },
}
