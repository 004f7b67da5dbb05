// What ner.jsonnet, ner_vanilla.jsonnet and ner_select.jsonnet have in common.
{
  // What LDNET_SETTINGS may set, and the defaults.
  defaults: {
    // CoNLL columns: the first is the word, the last is the tag.
    train: 'data/train.conll',
    dev: 'data/dev.conll',
    test: 'data/test.conll',
    // Options of the dataset reader: {"type": "annotated_jsonl"} for exports of doccano, Label Studio, Prodigy, spaCy and
    // brat, {"layout": "conllu"}, and so on.
    reader: {},
    // The language of raw text, one of spaCy's codes: the tagger splits it into sentences and words by its rules.
    language: 'en',
    // Any of IOB1, BIO, BIOUL (= IOBES), BMES; "auto" finds out.
    label_encoding: 'auto',
    // Archives of lm_forward.jsonnet and lm_backward.jsonnet.
    lm_forward: 'out/lm_forward/model.tar.gz',
    lm_backward: 'out/lm_backward/model.tar.gz',
    // The archive of a tagger to continue from, with new words, characters and labels; or null.
    continue_from: null,
    // Word vectors: GloVe, fastText's .vec, word2vec (text or binary), plain, compressed or zipped; or null.
    vectors: null,
    // Look words up in lower case, as the original does and as GloVe's vectors of 6B words are; false for cased vectors.
    lowercase: true,
    // Words that are rarer in the training data and have no vector are unknown.
    min_count: 2,
    word_dim: 100,
    char_dim: 30,
    char_hidden: 150,
    // Each direction of the BiLSTM.
    word_hidden: 150,
    dropout: 0.5,
    batch_size: 10,
    // "sgd" as published: with momentum 0.9, a rate that falls as 1 / (1 + 0.05 epochs). Or "adam", with a rate that
    // falls to 0 in the last epoch: 0.005 and 10 epochs learn WNUT-17 in a few minutes.
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
      // Rare words are read as the unknown one, so that it has a vector that means something.
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
          // Every word that has a vector is known, in the training data or not.
          tokens: { type: 'embedding', embedding_dim: settings.word_dim } + if settings.vectors == null then {} else {
            type: 'word_vectors',
            pretrained_file: settings.vectors,
            setting: 'word_dim',
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
            forward: { pretrained_file: settings.lm_forward },
            backward: { pretrained_file: settings.lm_backward },
            projection_dim: settings.word_dim,
            dropout: settings.dropout,
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
    } + {
      sgd: {
        optimizer: { type: 'sgd', lr: settings.learning_rate, momentum: 0.9 },
        learning_rate_scheduler: { type: 'inverse_time', decay: 0.05 },
      },
      adam: {
        optimizer: { type: 'adam', lr: settings.learning_rate },
        learning_rate_scheduler: { type: 'linear_with_warmup', warmup_steps: 100 },
      },
    }[settings.optimizer] + {
      grad_norm: 5,
      num_epochs: settings.num_epochs,
      patience: settings.patience,
      validation_metric: '+f1-measure-overall',
      // Reads over a checkpoint that was half written when the run was killed.
      checkpointer: { type: 'resumable', keep_most_recent_by_count: 1 },
    },
    random_seed: 13370,
    numpy_seed: 1337,
    pytorch_seed: 133,
  },
}
