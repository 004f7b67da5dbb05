// Text classifier: `ld_rnn` in AllenNLP's `basic_classifier`, inside `compose`: its layers, a projection of all layers,
// and the mean over the words.
//
//     LDNET_SETTINGS='{"train": "genres.train.jsonl", "dev": "genres.dev.jsonl", "test": "genres.test.jsonl"}' \
//       allennlp train training_config/compose/classifier.jsonnet -s out/genre --include-package ldnet_allennlp
//     echo '{"sentence": "Best pizza in town !"}' > sentences.jsonl
//     allennlp predict out/genre/model.tar.gz sentences.jsonl --include-package ldnet_allennlp
//
// Data: lines of {"text": "words separated by blanks", "label": "..."}. The score below uses the sentences of a CoNLL-U
// corpus and their genres, extracted by benchmarks/composition_data.py. For comparison, "encoder": "pass_through"
// trains on the word vectors alone.
//
// Hardware: one CPU core and 2 GiB of memory.
// Score: test accuracy 60.7 (dev 59.1) on the sentences of UD English EWT and their five genres, with "num_epochs": 5
// and the defaults. 0.5 minutes of CPU time on one core, one seed (13370), best epoch 3. The word vectors alone
// ("encoder": "pass_through") reach 61.3 (dev 58.5), so the layers do not help here. The most frequent genre covers
// 29.2 % of the test data. Measured by benchmarks/compositions.py.
local experiment = import 'experiment.libsonnet';
local settings = (import '../settings.libsonnet')(experiment.defaults {
  // 'ld_rnn', or 'pass_through' for no encoder.
  encoder: 'ld_rnn',
  min_count: 2,
  word_dim: 100,
  hidden_size: 50,
  num_layers: 2,
  layer_dropout: 0.1,
  projection_dim: 100,
  dropout: 0.5,
});
local encoders = {
  ld_rnn: {
    type: 'ld_rnn',
    input_size: settings.word_dim,
    hidden_size: settings.hidden_size,
    num_layers: settings.num_layers,
    layer_dropout: settings.layer_dropout,
  },
  pass_through: { type: 'pass_through', input_dim: settings.word_dim },
};
local sizes = {
  ld_rnn: settings.word_dim + settings.num_layers * settings.hidden_size,
  pass_through: settings.word_dim,
};
assert std.objectHas(encoders, settings.encoder) :
       'encoder is ' + settings.encoder + ', expected one of ' + std.join(', ', std.objectFields(encoders)) + '.';

experiment.config(settings, '+accuracy') {
  dataset_reader: {
    type: 'text_classification_json',
    tokenizer: 'just_spaces',
    token_indexers: { tokens: { type: 'single_id', lowercase_tokens: true } },
  },
  vocabulary: { min_count: { tokens: settings.min_count } },
  model: {
    type: 'basic_classifier',
    text_field_embedder: {
      token_embedders: { tokens: { type: 'embedding', embedding_dim: settings.word_dim } },
    },
    seq2seq_encoder: {
      type: 'compose',
      encoders: [
        encoders[settings.encoder],
        {
          type: 'feedforward',
          feedforward: {
            input_dim: sizes[settings.encoder],
            num_layers: 1,
            hidden_dims: settings.projection_dim,
            activations: 'relu',
          },
        },
      ],
    },
    seq2vec_encoder: { type: 'bag_of_embeddings', embedding_dim: settings.projection_dim, averaged: true },
    dropout: settings.dropout,
  },
}
