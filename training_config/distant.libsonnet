// Shared parts of autoner.jsonnet and fuzzy_crf.jsonnet: training on partial labels.
local ner = import 'ner.libsonnet';

{
  // Settings for LDNET_SETTINGS: those of ner.jsonnet, with these defaults.
  defaults: ner.defaults {
    // Archives of lm_forward.jsonnet and lm_backward.jsonnet, or null for neither.
    lm_forward: null,
    lm_backward: null,
    // The tag of words that may have any tag.
    partial_label: '?',
    // Reader options of the dev and test files, if these differ: {"type": "annotated_jsonl"} for exports of doccano.
    gold_reader: null,
    // Trained vectors memorize which words the dictionary lacks.
    train_vectors: false,
    char_hidden: 50,
    word_hidden: 75,
    batch_size: 32,
    optimizer: 'adam',
    learning_rate: 0.005,
    // Few epochs, as the labels are noisy. The gold development data choose the best one.
    num_epochs: 6,
  },

  config(settings)::
    local config = ner.config(settings);
    local chosen = if settings.lm_forward == null then ner.without_language_models(config) else config;
    local reader = chosen.dataset_reader { partial_label: settings.partial_label };
    chosen {
      dataset_reader: reader,
      [if settings.gold_reader != null then 'validation_dataset_reader']: reader + settings.gold_reader,
    },
}
