// The published language models: One Billion Word benchmark (Chelba et al. 2013), 793,470 words, 10 layers of 300.
// Perplexity as published (LD-Net, section 4.1): 50.06, the mean of both directions.
//
//     LDNET_SETTINGS='{"gpus": [0]}' \
//       allennlp train training_config/lm_one_billion.jsonnet -s out/1b_forward --include-package ldnet_allennlp
//     LDNET_SETTINGS='{"gpus": [0], "direction": "backward"}' \
//       allennlp train training_config/lm_one_billion.jsonnet -s out/1b_backward --include-package ldnet_allennlp
//
// Hardware: a GPU with 16 GiB or more; several with {"gpus": [0, 1, 2, 3]}. docs/pretraining_at_scale.md works out
// times, memory and disk, and shows how to use several machines.
//
// The sizes, dropout, optimizer, clipping and windows are the published ones (train_lm.py of the original); so are
// the learning rate's checks, which are made every 4,000 batches, against the perplexity of the training text.
// Two things differ, and change no result to speak of: word vectors have sparse gradients (a step then costs what
// its own words cost), and the text is read as one stream instead of file by file.
local lm = import 'lm.libsonnet';
local folder = 'data/1-billion-word-language-modeling-benchmark-r13output/';
local settings = (import 'settings.libsonnet')(lm.defaults {
  direction: 'forward',
  train: folder + 'training-monolingual.tokenized.shuffled/news.en-000*-of-00100',
  valid: folder + 'heldout-monolingual.tokenized.shuffled/news.en.heldout-00001-of-00050',
  // 793,470 words with those that the benchmark counts: 3 occurrences or more.
  min_count: 3,
  shards: 'out/1b_shards',
  num_workers: 8,
  // One "epoch" is that many batches, after which the perplexities are looked at and a checkpoint is written.
  batches_per_epoch: 4000,
  // Ten passes over 800 million tokens with one process.
  num_epochs: 3130,
});

lm.config(settings, settings.direction) + {
  data_loader+: { batches_per_epoch: settings.batches_per_epoch, shuffle: true },
  // Validation and `allennlp evaluate` read all of their text.
  validation_data_loader: super.data_loader,
  trainer+: {
    learning_rate_scheduler:: null,
    patience: null,
    callbacks: [{ type: 'training_plateau', metric: 'perplexity', factor: 0.1, patience: 10 }],
  },
}
