"""Encoders whose recurrent and linear layers have int8 weights."""

from allennlp.modules.seq2seq_encoders import Seq2SeqEncoder

from ldnet_allennlp.modules.quantized_layers import quantize_layers


@Seq2SeqEncoder.register("int8", constructor="with_int8_weights")
class Int8Encoder(Seq2SeqEncoder):
    """
    A `Seq2SeqEncoder` with int8 weights in its LSTMs, GRUs and linear layers, see `quantized_layers` and
    `Int8TokenEmbedder`.

    Registered as a `Seq2SeqEncoder` with name "int8". What is built is the encoder itself.
    """

    @classmethod
    def with_int8_weights(cls, encoder: Seq2SeqEncoder) -> Seq2SeqEncoder:
        """
        # Parameters

        encoder : `Seq2SeqEncoder`
            One of torch's LSTMs or GRUs ("lstm", "gru"), an "ld_rnn", or several of them.
        """
        quantize_layers(encoder)
        return encoder
