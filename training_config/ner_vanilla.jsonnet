// Tagger of ner.jsonnet without language models, for comparison.
//
//     LDNET_SETTINGS='{"train": "train.conll", "dev": "dev.conll", "test": "test.conll"}' \
//       allennlp train training_config/ner_vanilla.jsonnet -s out/ner_vanilla --include-package ldnet_allennlp
//
// Hardware: two CPU cores and 2 GiB of memory.
// Score: see docs/results.md.
//
// Settings: those of ner.jsonnet.
local library = import 'ner.libsonnet';
local ner = library.config((import 'settings.libsonnet')(library.defaults));
local without(object, name) = { [key]: object[key] for key in std.objectFields(object) if key != name };

ner {
  dataset_reader+: {
    token_indexers: without(ner.dataset_reader.token_indexers, 'ldnet'),
  },
  model+: {
    text_field_embedder+: {
      token_embedders: without(ner.model.text_field_embedder.token_embedders, 'ldnet'),
    },
    encoder+: {
      input_size: ner.model.encoder.input_size - ner.model.text_field_embedder.token_embedders.ldnet.projection_dim,
    },
  },
}
