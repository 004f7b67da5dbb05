// Shared parts of the language model configs (lm_*.jsonnet).
{
  // Settings for LDNET_SETTINGS, with their defaults.
  defaults: {
    // Text files: one sentence per line, words separated by blanks, plain or compressed. A file, list, glob or folder.
    train: 'data/lm/train.txt',
    valid: 'data/lm/valid.txt',
    // Words with fewer occurrences are unknown.
    min_count: 3,
    num_layers: 10,
    embedding_dim: 300,
    // Size of each layer (the growth rate).
    hidden_size: 300,
    projection_dim: 1600,
    layer_dropout: 0.5,
    // Share of the batches that read no more than half of the layers, for language models that predict with few of them
    // after pruning. Not in the paper; docs/results.md has figures for 0.6.
    few_layers: 0.0,
    dropout: 0.01,
    // First word of each tail cluster of the adaptive softmax, by frequency rank.
    cutoffs: [4000, 40000, 200000],
    // null: the exact softmax. A number: each training step samples this many words of each tail cluster, so that its
    // cost does not depend on the vocabulary. Evaluation is exact either way.
    tail_samples: null,
    // "bfloat16": matrix products in bfloat16. "auto": the same if the CPU or GPU supports it.
    autocast: null,
    // Directory that stores the text as word ids, 4 bytes per token, for texts larger than the memory. Later runs reuse
    // it.
    shards: null,
    // Processes that read the text.
    num_workers: 0,
    // Rows and steps of a window. In distributed training, each process reads this many rows.
    batch_size: 128,
    sequence_length: 20,
    learning_rate: 0.001,
    num_epochs: 10,
    patience: 3,
    // null: the first GPU, if available. [0, 1, 2, 3]: four GPUs. [-1, -1]: two processes on the CPU.
    gpus: null,
    // For several machines: {"num_nodes": 2, "primary_address": "10.0.0.1", "primary_port": 29500}. Pass `--node-rank`
    // to allennlp train on each.
    nodes: {},
  },

  // `direction`: "forward", "backward", or "both" for one bidirectional model.
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
          // Sparse gradients: the cost of a step does not depend on the vocabulary.
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
        few_layers: settings.few_layers,
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
          // As in the original: uniform with variance 1 / size.
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
      // "max", because the scheduler reads the validation metric below, which is negated.
      learning_rate_scheduler: { type: 'reduce_on_plateau', factor: 0.1, mode: 'max', threshold: 0, patience: 0 },
      num_epochs: settings.num_epochs,
      patience: settings.patience,
      validation_metric: '-perplexity',
      // `allennlp train ... --recover` resumes an interrupted run.
      checkpointer: { type: 'resumable', keep_most_recent_by_count: 1 },
      [if settings.gpus != null && std.length(settings.gpus) == 1 then 'cuda_device']: settings.gpus[0],
    },
    random_seed: 13370,
    numpy_seed: 1337,
    pytorch_seed: 133,
  },
}
