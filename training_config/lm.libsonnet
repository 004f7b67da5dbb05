// What the language models' configs (lm_*.jsonnet) have in common.
{
  // What LDNET_SETTINGS may set, and the defaults.
  defaults: {
    // Text: one sentence a line, words between blanks, plain or gzip; a file, a list of them, a glob, a folder.
    train: 'data/lm/train.txt',
    valid: 'data/lm/valid.txt',
    // Rarer words are unknown.
    min_count: 3,
    num_layers: 10,
    embedding_dim: 300,
    // The size of each layer (the growth rate).
    hidden_size: 300,
    projection_dim: 1600,
    layer_dropout: 0.5,
    dropout: 0.01,
    // Where the clusters of the adaptive softmax begin, by rank of frequency.
    cutoffs: [4000, 40000, 200000],
    // null: the exact softmax. A number: training steps draw this many words of each tail cluster instead of using
    // all of them, so that their cost does not grow with the vocabulary. Evaluation is exact either way.
    tail_samples: null,
    // "bfloat16": all but the softmax in that precision; "auto": the same where the CPU or GPU supports it.
    autocast: null,
    // A directory in which the text is kept as ids, 4 bytes a token: for texts that do not fit into memory, and so
    // that the next run need not count and look up all words again.
    shards: null,
    // Processes that count and look up words.
    num_workers: 0,
    // Rows and steps of a window. In distributed training each process reads that many rows.
    batch_size: 128,
    sequence_length: 20,
    learning_rate: 0.001,
    num_epochs: 10,
    patience: 3,
    // null: the first GPU, if there is one. [0, 1, 2, 3] trains on four, [-1, -1] in two processes on the CPU.
    gpus: null,
    // More than one machine: {"num_nodes": 2, "primary_address": "10.0.0.1", "primary_port": 29500}, and
    // `--node-rank` for allennlp train on each.
    nodes: {},
  },

  // direction: "forward", "backward", or "both" for one model with both directions.
  config(settings, direction):: {
    local both = direction == 'both',
    local bound = std.sqrt(3 / settings.embedding_dim),
    dataset_reader: { type: 'lm_stream' },
    train_data_path: settings.train,
    validation_data_path: settings.valid,
    datasets_for_vocab_creation: ['train'],
    vocabulary: { min_count: { tokens: settings.min_count } },
    model: {
      type: 'adaptive_language_model',
      direction: if both then 'forward' else direction,
      bidirectional: both,
      text_field_embedder: {
        token_embedders: {
          // Sparse: a step costs what its own words cost, whatever the size of the vocabulary.
          tokens: { type: 'embedding', embedding_dim: settings.embedding_dim, sparse: true },
        },
      },
      embedding_dropout: settings.dropout,
      contextualizer: {
        type: 'ld_rnn',
        input_size: settings.embedding_dim,
        hidden_size: settings.hidden_size,
        num_layers: settings.num_layers,
        dropout: settings.dropout,
        layer_dropout: settings.layer_dropout,
        bidirectional: both,
        stateful: true,
      },
      projection_dim: settings.projection_dim,
      projection_activation: 'relu',
      dropout: settings.dropout,
      cutoffs: settings.cutoffs,
      tail_samples: settings.tail_samples,
      autocast: settings.autocast,
      initializer: {
        regexes: [[
          'token_embedder_tokens.weight',
          // As in the original: uniform, with a variance of 1 / size.
          { type: 'uniform', a: -bound, b: bound },
        ]],
      },
    },
    data_loader: {
      type: 'lm_stream',
      direction: direction,
      batch_size: settings.batch_size,
      sequence_length: settings.sequence_length,
      shards: settings.shards,
      num_workers: settings.num_workers,
    },
    [if settings.gpus != null && std.length(settings.gpus) > 1 then 'distributed']: {
      cuda_devices: settings.gpus,
      ddp_accelerator: { type: 'sparse_torch' },
    } + settings.nodes,
    trainer: {
      type: 'strict_gradient_descent',
      optimizer: { type: 'lazy_adam', lr: settings.learning_rate, grad_norm: 5 },
      // "max": the trainer gives the scheduler the validation metric below, the perplexity's negative.
      learning_rate_scheduler: { type: 'reduce_on_plateau', factor: 0.1, mode: 'max', threshold: 0, patience: 0 },
      num_epochs: settings.num_epochs,
      patience: settings.patience,
      validation_metric: '-perplexity',
      // A run that was interrupted goes on with `allennlp train ... --recover`.
      checkpointer: { type: 'resumable', keep_most_recent_by_count: 1 },
      [if settings.gpus != null && std.length(settings.gpus) == 1 then 'cuda_device']: settings.gpus[0],
    },
    random_seed: 13370,
    numpy_seed: 1337,
    pytorch_seed: 133,
  },
}
