// Shared parts of ner.jsonnet, ner_vanilla.jsonnet, ner_select.jsonnet, autoner.jsonnet and fuzzy_crf.jsonnet.
{
  // Settings for LDNET_SETTINGS, with their defaults.
  defaults: {
    // Files with CoNLL columns: the word first, the tag last.
    train: 'data/train.conll',
    dev: 'data/dev.conll',
    test: 'data/test.conll',
    // Dataset reader options: {"type": "annotated_jsonl"} for exports of doccano, Label Studio, Prodigy, spaCy and
    // brat, {"layout": "conllu"} for CoNLL-U, and so on.
    reader: {},
    // Language of raw text, as a spaCy code. Its rules split text into sentences and words.
    language: 'en',
    // IOB1, BIO, BIOUL (= IOBES) or BMES. "auto" detects it.
    label_encoding: 'auto',
    // Archives of language models: the English ones of the repository, or those of lm_forward.jsonnet and
    // lm_backward.jsonnet. With null as lm_backward, lm_forward is one bidirectional model.
    lm_forward: 'models/english/forward.tar.gz',
    lm_backward: 'models/english/backward.tar.gz',
    // Directory for a cache of the language models' outputs, which later epochs and trainings read. null: no cache.
    cache: null,
    // model.tar.gz of a tagger to continue from (new words, characters and labels are added), or null.
    continue_from: null,
    // Word vectors (GloVe, fastText .vec, word2vec text or binary; plain, compressed or zipped), or null.
    vectors: null,
    // Whether training changes the word vectors of the file.
    train_vectors: true,
    // Look up words in lower case, as the original does and as the GloVe 6B vectors expect. false for cased vectors.
    lowercase: true,
    // Words with fewer occurrences in the training data and without a vector are unknown.
    min_count: 2,
    word_dim: 100,
    char_dim: 30,
    char_hidden: 150,
    // Size of each direction of the BiLSTM.
    word_hidden: 150,
    dropout: 0.5,
    // Dropout of the language models' outputs. 0 is as good or better for small language models.
    lm_dropout: self.dropout,
    batch_size: 10,
    // "sgd" or "adam". "sgd", as published: momentum 0.9, learning rate divided by (1 + 0.05 epochs). "adam": the
    // learning rate falls to 0 in the last epoch; with 0.005 and 10 epochs, WNUT-17 trains in a few minutes.
    optimizer: 'sgd',
    learning_rate: 0.015,
    num_epochs: 100,
    patience: 15,
  },

  config(settings):: {
    dataset_reader: {
      type: 'conll_columns',
      label_encoding: settings.label_encoding,
      target_label_encoding: 'BIOUL',
      tokenizer: { type: 'rule_based', language: settings.language },
      token_indexers: {
        tokens: { type: 'single_id', lowercase_tokens: settings.lowercase },
        token_characters: { type: 'characters', min_padding_length: 1 },
        ldnet: { type: 'ldnet' },
      },
    } + settings.reader,
    train_data_path: settings.train,
    validation_data_path: settings.dev,
    [if settings.test != null then 'test_data_path']: settings.test,
    evaluate_on_test: settings.test != null,
    datasets_for_vocab_creation: ['train'],
    vocabulary: {
      // Rare words train the vector of the unknown word.
      min_count: { tokens: settings.min_count },
    } + if settings.continue_from == null then {} else { type: 'extend', directory: settings.continue_from },
    model: {
      type: 'ldnet_tagger',
      label_encoding: 'BIOUL',
      dropout: settings.dropout,
      [if settings.continue_from != null then 'initializer']: {
        regexes: [['.*', { type: 'continue_from', archive_file: settings.continue_from }]],
      },
      text_field_embedder: {
        token_embedders: {
          // Every word with a vector is known, even if the training data lack it.
          tokens: { type: 'embedding', embedding_dim: settings.word_dim } + if settings.vectors == null then {} else {
            type: 'word_vectors',
            pretrained_file: settings.vectors,
            setting: 'word_dim',
            trainable: settings.train_vectors,
          },
          token_characters: {
            type: 'sentence_character_lstm',
            embedding_dim: settings.char_dim,
            hidden_size: settings.char_hidden,
            projection_dim: settings.word_dim,
            dropout: settings.dropout,
          },
          ldnet: {
            type: 'ldnet',
            [if settings.lm_backward == null then 'bidirectional' else 'forward']: { pretrained_file: settings.lm_forward },
            [if settings.lm_backward != null then 'backward']: { pretrained_file: settings.lm_backward },
            projection_dim: settings.word_dim,
            dropout: settings.lm_dropout,
            [if settings.cache != null then 'cache']: settings.cache,
          },
        },
      },
      encoder: {
        type: 'lstm',
        input_size: 3 * settings.word_dim,
        hidden_size: settings.word_hidden,
        bidirectional: true,
      },
    },
    data_loader: {
      batch_sampler: { type: 'bucket', batch_size: settings.batch_size, sorting_keys: ['tokens'] },
    },
    validation_data_loader: {
      batch_sampler: { type: 'bucket', batch_size: 32, sorting_keys: ['tokens'], padding_noise: 0 },
    },
    trainer: {
      type: 'strict_gradient_descent',
    } + std.get({
      sgd: {
        optimizer: { type: 'sgd', lr: settings.learning_rate, momentum: 0.9 },
        learning_rate_scheduler: { type: 'inverse_time', decay: 0.05 },
      },
      adam: {
        optimizer: { type: 'adam', lr: settings.learning_rate },
        learning_rate_scheduler: { type: 'linear_with_warmup', warmup_steps: 100 },
      },
    }, settings.optimizer, error 'LDNET_SETTINGS has the optimizer ' + settings.optimizer + '; expected sgd or adam.') + {
      grad_norm: 5,
      num_epochs: settings.num_epochs,
      patience: settings.patience,
      validation_metric: '+f1-measure-overall',
      // Skips a checkpoint that a killed run left incomplete.
      checkpointer: { type: 'resumable', keep_most_recent_by_count: 1 },
    },
    random_seed: 13370,
    numpy_seed: 1337,
    pytorch_seed: 133,
  },

  // A config without its language models.
  without_language_models(config)::
    local without(object, name) = { [key]: object[key] for key in std.objectFields(object) if key != name };
    local embedders = config.model.text_field_embedder.token_embedders;
    config {
      dataset_reader+: { token_indexers: without(config.dataset_reader.token_indexers, 'ldnet') },
      model+: {
        text_field_embedder+: { token_embedders: without(embedders, 'ldnet') },
        encoder+: { input_size: config.model.encoder.input_size - embedders.ldnet.projection_dim },
      },
    },
}
