// Layer selection: continues training a tagger of ner.jsonnet with a gate for each layer of its language models,
// until at most `lambda_1` layers are left (LD-Net, section 3.3; prune_sparse_seq.py of the original).
//
//     LDNET_SETTINGS='{"tagger": "out/ner", "train": "train.conll", "dev": "dev.conll", "test": "test.conll"}' \
//       allennlp train training_config/ner_select.jsonnet -s out/ner_select --include-package ldnet_allennlp
//     allennlp ldnet-prune out/ner_select/model.tar.gz out/pruned/model.tar.gz
//
// Hardware: two CPU cores and 4 GiB of memory for language models of 10 x 300.
// Settings: those of ner.jsonnet, with the sizes that the tagger was trained with, and the ones below. The
// language models' archives are no longer needed: the tagger's archive holds them.
local library = import 'ner.libsonnet';
local settings = (import 'settings.libsonnet')(library.defaults {
  // The serialization directory of the trained tagger.
  tagger: 'out/ner',
  // The weight of the penalty, and the maximum number of layers of both directions together.
  lambda_0: 0.05,
  lambda_1: 2,
  // Instead of lambda_1: the maximum multiply-adds a word of the language models and their projection.
  max_multiply_adds: null,
  // The learning rate of the gates, which move further than weights; null: that of the weights.
  gate_learning_rate: null,
  // Points [epoch, value] of lambda_0, lambda_1 or max_multiply_adds, linear between them; null: constant, as above.
  // With {"lambda_1": [[0, 16], [4, 2]]} layers are cut step by step, and not all gates fall together.
  schedule: null,
  // true: reach the budget exactly, whatever lambda_0 is; false: the published penalty.
  exact_budget: false,
});
local ner = library.config(settings);

ner {
  vocabulary: { type: 'from_files', directory: settings.tagger + '/vocabulary' },
  model+: {
    text_field_embedder+: {
      token_embedders+: {
        ldnet+: {
          // Their architecture is in the tagger's vocabulary.
          forward: {},
          backward: {},
          lambda_0: settings.lambda_0,
          [if settings.max_multiply_adds == null then 'lambda_1']: settings.lambda_1,
          [if settings.max_multiply_adds != null then 'max_multiply_adds']: settings.max_multiply_adds,
        },
      },
    },
    // Everything starts from the trained tagger. The gates are among its weights: all of them 1.
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
