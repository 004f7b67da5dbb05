// Merges what the user sets into a config's defaults:
//
//     LDNET_SETTINGS='{"train": "my.conll", "num_epochs": 10}' allennlp train training_config/ner.jsonnet ...
//
// A setting that the config does not know is an error, so that a misspelt one does not go unnoticed.
// Importing ldnet_allennlp gives the variable an empty default: jsonnet itself knows none.
function(defaults)
  local given = std.parseJson(std.extVar('LDNET_SETTINGS'));
  local unknown = [name for name in std.objectFields(given) if !std.objectHas(defaults, name)];
  assert unknown == [] :
         'LDNET_SETTINGS has ' + std.join(', ', unknown) + ', but this config knows only ' +
         std.join(', ', std.objectFields(defaults)) + '.';
  defaults + given
