"""Network families, one file each, with a `Generator` and a `Discriminator`.

Both are Flax modules with the fields `shape` (of one example) and `num_classes` (0 for
an unconditional network), called as

    generator(latents, labels, train=...)      [batch, size] -> [batch, *shape]
    discriminator(examples, labels, train=...) [batch, *shape] -> logits [batch]

A generator of images tells by its field `output` what range they lie in: 'tanh' is
[-1, 1], 'sigmoid' is [0, 1]; real images are brought to the same. A discriminator
whose logits depend on one example each, so that real and generated ones may share a
batch, says so by `per_example = True`.

What published objectives need besides is in fields of both networks, whose defaults
leave it out; a config reaches them by `--config.generator='attention=16, dropout=0.5'`
and `--config.discriminator='minibatch_std=4, conditioning="concatenation"'`:

    conditioning   how labels enter. G: 'concatenation' to the latents (the default), or
                   'batch_norm', gains and biases by class. D: 'projection' (the
                   default), 'concatenation' to the examples, or 'auxiliary', a
                   classifier of the last features, where D is not told the label
    spectral_norm  of all dense layers and convolutions, and of the projection
    dropout        G: its rate, at test too, from the random stream `dropout`
    attention      resnet: side of the feature map that self-attention follows
    minibatch_std  D: examples to a group whose standard deviation is one more feature
    norm           dcgan's D: 'batch' or 'none'

Our discriminators end in `gan_jax.layers.labels.Logits`. Where a caller makes the
collection `intermediates` mutable, it gets there, under `Logits_0`, what some
objectives read: `features [batch, features]`, the input of the last layer, and with
'auxiliary' `class_logits [batch, num_classes]`.

All are to be run in bfloat16 as well: parameters and inputs are cast to it, the
collections `batch_stats` and `spectral` stay float32.
"""
