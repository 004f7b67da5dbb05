"""Token embedders whose recurrent and linear layers have int8 weights."""

from allennlp.modules.token_embedders import TokenEmbedder

from ldnet_allennlp.modules.quantized_layers import quantize_layers


@TokenEmbedder.register("int8", constructor="with_int8_weights")
class Int8TokenEmbedder(TokenEmbedder):
    """
    Any token embedder with int8 weights in its LSTMs, GRUs and linear layers, see `quantized_layers`: a smaller
    archive, and faster prediction on a CPU. Its embeddings, and all else, stay as they are. `ldnet-compress --int8`
    writes such a config: it is for models that are trained already, and an error in training.

    Registered as a `TokenEmbedder` with name "int8". What is built is the embedder itself.
    """

    @classmethod
    def with_int8_weights(cls, embedder: TokenEmbedder) -> TokenEmbedder:
        """
        # Parameters

        embedder : `TokenEmbedder`
            For example one with the type "ldnet".
        """
        quantize_layers(embedder)
        return embedder
