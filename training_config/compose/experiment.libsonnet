// Shared parts of the configs in this folder: paths, batches, optimizer, seeds.
{
  // Settings for LDNET_SETTINGS in all of them, with their defaults.
  defaults: {
    train: 'data/train',
    // null: no validation; the model of the last epoch is kept.
    dev: 'data/dev',
    // null: no test.
    test: 'data/test',
    batch_size: 32,
    learning_rate: 0.001,
    num_epochs: 20,
    patience: 5,
  },

  // `metric` selects the best epoch. `lengths`: text fields that batches are sorted by.
  config(settings, metric, lengths=['tokens']):: {
    train_data_path: settings.train,
    [if settings.dev != null then 'validation_data_path']: settings.dev,
    [if settings.test != null then 'test_data_path']: settings.test,
    evaluate_on_test: settings.test != null,
    datasets_for_vocab_creation: ['train'],
    data_loader: {
      batch_sampler: { type: 'bucket', batch_size: settings.batch_size, sorting_keys: lengths },
    },
    validation_data_loader: {
      batch_sampler: { type: 'bucket', batch_size: 64, sorting_keys: lengths, padding_noise: 0 },
    },
    trainer: {
      type: 'strict_gradient_descent',
      optimizer: { type: 'adam', lr: settings.learning_rate },
      grad_norm: 5,
      num_epochs: settings.num_epochs,
      patience: settings.patience,
      validation_metric: metric,
      checkpointer: { keep_most_recent_by_count: 1 },
    },
    random_seed: 13370,
    numpy_seed: 1337,
    pytorch_seed: 133,
  },
}
