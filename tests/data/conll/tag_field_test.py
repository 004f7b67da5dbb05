import logging

from allennlp.data import Batch, Instance, Token, Vocabulary
from allennlp.data.fields import SequenceLabelField, TextField
from allennlp.data.token_indexers import SingleIdTokenIndexer

from ldnet_allennlp.data.conll.tag_field import UNSEEN, TagField


def instance_of(tags, field):
    words = TextField([Token(word) for word in tags], {"tokens": SingleIdTokenIndexer()})
    return Instance({"tokens": words, "tags": field(tags, words)})


def test_known_labels_are_those_of_allennlps_field():
    rows = [["O", "B-X"], ["I-X", "O", "B-Y"]]
    vocab = Vocabulary.from_instances([instance_of(tags, TagField) for tags in rows])
    tensors = []
    for field in (TagField, SequenceLabelField):
        batch = Batch([instance_of(tags, field) for tags in rows])
        batch.index_instances(vocab)
        tensors.append(batch.as_tensor_dict()["tags"])
    assert tensors[0].tolist() == tensors[1].tolist()
    assert len(set(tensors[0][1].tolist())) == 3


def test_unseen_labels_have_an_id_and_are_logged_once(caplog):
    vocab = Vocabulary.from_instances([instance_of(["O", "B-X"], TagField)])
    TagField._already_logged.clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            instance = instance_of(["B-X", "B-Z", "O", "B-Z", "I-Z"], TagField)
            instance.index_fields(vocab)
    known = vocab.get_token_to_index_vocabulary("labels")
    assert instance.as_tensor_dict()["tags"].tolist() == [known["B-X"], UNSEEN, known["O"], UNSEEN, UNSEEN]
    messages = [record.getMessage() for record in caplog.records if "tag_field" in record.name]
    assert [message.count("'B-Z'") for message in messages] == [1, 0]
    assert "'I-Z'" in messages[1] and "'labels'" in messages[0]
