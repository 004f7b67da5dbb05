from ldnet_allennlp.export.checks import NotExportable
from ldnet_allennlp.export.tagger import export_tagger
