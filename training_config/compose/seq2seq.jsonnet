// Translation: `ld_rnn`, bidirectional, as the encoder of allennlp-models' `composed_seq2seq`, with an attentive LSTM
// decoder.
//
//     LDNET_SETTINGS='{"train": "lemmas.train.tsv", "dev": "lemmas.dev.tsv", "test": null}' \
//       allennlp train training_config/compose/seq2seq.jsonnet -s out/seq2seq --include-package ldnet_allennlp
//     echo '{"source": "VERB w r o t e"}' > words.jsonl
//     allennlp predict out/seq2seq/model.tar.gz words.jsonl --include-package ldnet_allennlp
//
// Data: lines of source TAB target, words separated by blanks, such as sentences in two languages. The score below is
// for lemmatization: the source is a word's part of speech and characters, the target the characters of its lemma
// (benchmarks/composition_data.py extracts them from CoNLL-U).
//
// Hardware: one CPU core and 2 GiB of memory.
// Score: 87.2 % of the test lemmas exactly right on the words of UD English EWT (1,253 words absent from training and
// dev data; copying the word gives 74.7 %), with "learning_rate": 0.003, "num_epochs": 6 and the defaults. 4.2 minutes
// of CPU time on one core, one seed (13370), best epoch 5 (dev loss 0.195). Measured by benchmarks/compositions.py.
local experiment = import 'experiment.libsonnet';
local settings = (import '../settings.libsonnet')(experiment.defaults {
  // Words (here: characters) with fewer occurrences are unknown, in source and target.
  min_count: 2,
  embedding_dim: 64,
  // Size (growth rate) and number of the encoder's layers.
  hidden_size: 32,
  num_layers: 3,
  layer_dropout: 0.1,
  dropout: 0.1,
  beam_size: 4,
  // Maximum length of the output.
  max_steps: 50,
});
// Both directions: the input and all layers.
local encoder_dim = 2 * (settings.embedding_dim + settings.num_layers * settings.hidden_size);

experiment.config(settings, '-loss', ['source_tokens', 'target_tokens']) {
  dataset_reader: {
    type: 'seq2seq',
    source_tokenizer: 'just_spaces',
    source_token_indexers: { tokens: { type: 'single_id', namespace: 'source_tokens' } },
    target_token_indexers: { tokens: { type: 'single_id', namespace: 'target_tokens' } },
    // csv.QUOTE_NONE: quotation marks are ordinary characters.
    quoting: 3,
  },
  vocabulary: { min_count: { source_tokens: settings.min_count, target_tokens: settings.min_count } },
  model: {
    type: 'composed_seq2seq',
    source_text_embedder: {
      token_embedders: {
        tokens: { type: 'embedding', embedding_dim: settings.embedding_dim, vocab_namespace: 'source_tokens' },
      },
    },
    encoder: {
      type: 'ld_rnn',
      input_size: settings.embedding_dim,
      hidden_size: settings.hidden_size,
      num_layers: settings.num_layers,
      layer_dropout: settings.layer_dropout,
      dropout: settings.dropout,
      bidirectional: true,
    },
    decoder: {
      type: 'auto_regressive_seq_decoder',
      target_namespace: 'target_tokens',
      target_embedder: { embedding_dim: settings.embedding_dim, vocab_namespace: 'target_tokens' },
      decoder_net: {
        type: 'lstm_cell',
        // The decoder starts from the encoder's last states, so both have the same size.
        decoding_dim: encoder_dim,
        target_embedding_dim: settings.embedding_dim,
        bidirectional_input: true,
        attention: { type: 'bilinear', vector_dim: encoder_dim, matrix_dim: encoder_dim },
      },
      beam_search: { beam_size: settings.beam_size, max_steps: settings.max_steps },
    },
  },
}
