from ldnet_allennlp.data.annotated.reader import AnnotatedJsonlReader
from ldnet_allennlp.data.conll.reader import ConllColumnsReader
from ldnet_allennlp.data.ldnet_indexer import LdnetIndexer
from ldnet_allennlp.data.lm_stream.loader import LmStreamLoader
from ldnet_allennlp.data.lm_stream.reader import LmStreamReader
from ldnet_allennlp.data.rule_based_tokenizer import RuleBasedTokenizer
