// A small language model of 19th-century English novels (ELTeC, 13.4 million words), for two CPU cores.
//
//     LDNET_SETTINGS='{"train": "eltec/train.txt.gz", "valid": "eltec/valid.txt"}' \
//       allennlp train training_config/lm_eltec.jsonnet -s out/lm_forward --include-package ldnet_allennlp
//     LDNET_SETTINGS='{"train": "eltec/train.txt.gz", "valid": "eltec/valid.txt", "direction": "backward"}' \
//       allennlp train training_config/lm_eltec.jsonnet -s out/lm_backward --include-package ldnet_allennlp
//
// Both can run at once, one on each core (OMP_NUM_THREADS=1). {"direction": "both"} trains one model of both directions.
//
// Hardware: one CPU core (here with AVX-512 and bfloat16) and 1 GiB of memory for each.
// Score: perplexity on test 82.7 forward and 83.1 backward (novels that were not trained on, 50,177 words), after one pass
// over 14 million tokens, which took 47 and 44 minutes on one core each of a busy machine:
//     allennlp evaluate out/lm_forward/model.tar.gz eltec/test.txt --include-package ldnet_allennlp \
//       -o '{"data_loader.batch_size": 8}' --batch-weight-key batch_weight
local lm = import 'lm.libsonnet';
local settings = (import 'settings.libsonnet')(lm.defaults {
  direction: 'forward',
  num_layers: 5,
  embedding_dim: 200,
  hidden_size: 100,
  projection_dim: 200,
  cutoffs: [2000, 10000],
  tail_samples: 1024,
  // bfloat16 where the CPU or GPU supports it, else float32.
  autocast: 'auto',
  learning_rate: 0.003,
  num_epochs: 1,
});

lm.config(settings, settings.direction) + {
  trainer+: {
    // One pass over the text: the learning rate rises for 200 batches and falls to 0 at the end.
    learning_rate_scheduler: { type: 'linear_with_warmup', warmup_steps: 200 },
    checkpointer+: { save_every_num_batches: 1000 },
  },
}
