// Merges the user's settings into a config's defaults:
//
//     LDNET_SETTINGS='{"train": "my.conll", "num_epochs": 10}' allennlp train training_config/ner.jsonnet ...
//
// An unknown setting is an error, so that a misspelled one does not go unnoticed.
//
// `.allennlp_plugins` and `--include-package ldnet_allennlp` set the variable to '{}' if it is not set. Without either,
// jsonnet stops here, and its message contains the name of the variable below.
local pass__include_package_ldnet_allennlp__or_set_LDNET_SETTINGS = std.extVar('LDNET_SETTINGS');

function(defaults)
  local user = std.parseJson(pass__include_package_ldnet_allennlp__or_set_LDNET_SETTINGS);
  local unknown = [name for name in std.objectFields(user) if !std.objectHas(defaults, name)];
  assert unknown == [] :
         'LDNET_SETTINGS has ' + std.join(', ', unknown) + ', but this config has only ' +
         std.join(', ', std.objectFields(defaults)) + '.';
  local settings = defaults + user;
  local none = [name for name in ['num_epochs', 'batch_size'] if std.get(settings, name, 1) < 1];
  assert none == [] : 'LDNET_SETTINGS has ' + std.join(' and ', none) + ' below 1; expected 1 or more.';
  settings
