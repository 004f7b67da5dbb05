// Published language models: One Billion Word benchmark (Chelba et al. 2013), 793,470 words, 10 layers of 300.
//
//     LDNET_SETTINGS='{"gpus": [0]}' \
//       allennlp train training_config/lm_one_billion.jsonnet -s out/1b_forward --include-package ldnet_allennlp
//     LDNET_SETTINGS='{"gpus": [0], "direction": "backward"}' \
//       allennlp train training_config/lm_one_billion.jsonnet -s out/1b_backward --include-package ldnet_allennlp
//
// Hardware: a GPU with 16 GiB or more, or several with {"gpus": [0, 1, 2, 3]}. docs/pretraining.md estimates time,
// memory and disk, and shows how to use several machines.
// Score: perplexity 50.06 as published (LD-Net, section 4.1; mean of both directions). Not reproduced here.
//
// The sizes, dropout, optimizer, clipping and windows are the published ones (train_lm.py of the original). As in the
// original, the training perplexity sets the learning rate, once per 4,000 batches.
//
// Two differences, with no expected effect on the result: word vectors have sparse gradients, so a step pays only for
// the words in it, and the text is one stream instead of one per file.
local lm = import 'lm.libsonnet';
local folder = 'data/1-billion-word-language-modeling-benchmark-r13output/';
local settings = (import 'settings.libsonnet')(lm.defaults {
  direction: 'forward',
  train: folder + 'training-monolingual.tokenized.shuffled/news.en-000*-of-00100',
  valid: folder + 'heldout-monolingual.tokenized.shuffled/news.en.heldout-00001-of-00050',
  // 3 or more occurrences, as the benchmark counts: 793,470 words.
  min_count: 3,
  shards: 'out/1b_shards',
  num_workers: 8,
  // Batches per "epoch". After each, the perplexity is checked and a checkpoint is written.
  batches_per_epoch: 4000,
  // Ten passes over 800 million tokens, for one process.
  num_epochs: 782,
});

lm.config(settings, settings.direction) + {
  data_loader+: { batches_per_epoch: settings.batches_per_epoch, shuffle: true },
  // Validation and `allennlp evaluate` read the whole text.
  validation_data_loader: super.data_loader,
  trainer+: {
    learning_rate_scheduler:: null,
    patience: null,
    callbacks: [{ type: 'training_plateau', metric: 'perplexity', factor: 0.1, patience: 10 }],
  },
}
