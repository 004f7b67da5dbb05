// Small language model for CPUs, measured on 19th-century English novels (ELTeC, 13.4 million words).
//
//     LDNET_SETTINGS='{"train": "eltec/train.txt.gz", "valid": "eltec/valid.txt"}' \
//       allennlp train training_config/lm_eltec.jsonnet -s out/lm_forward --include-package ldnet_allennlp
//     LDNET_SETTINGS='{"train": "eltec/train.txt.gz", "valid": "eltec/valid.txt", "direction": "backward"}' \
//       allennlp train training_config/lm_eltec.jsonnet -s out/lm_backward --include-package ldnet_allennlp
//
// Run both at the same time, one on each core (OMP_NUM_THREADS=1), or train one bidirectional model with
// {"direction": "both"}.
//
// Hardware: one CPU core (measured with AVX-512 and bfloat16) and 1 GiB of memory per direction.
// Score: test perplexity 82.7 forward and 83.1 backward on held-out novels (50,177 words), after one pass over 14
// million tokens. Training took 47 and 44 minutes, each on one core of a busy machine.
//
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
  // bfloat16 if the CPU or GPU supports it, float32 otherwise.
  autocast: 'auto',
  learning_rate: 0.003,
  num_epochs: 1,
});

lm.config(settings, settings.direction) + {
  trainer+: {
    // One pass over the text. The learning rate rises for 200 batches, then falls to 0.
    learning_rate_scheduler: { type: 'linear_with_warmup', warmup_steps: 200 },
    checkpointer+: { save_every_num_batches: 1000 },
  },
}
