"""Network families, one file each, with a `Generator` and a `Discriminator`.

Fields may be added, with defaults that leave a network as it was; the names of
submodules and parameters must stay, because checkpoints hold them. A new file (or one
of your own, `--config.model=path/to/my.py`) offers two Flax modules, of Linen or NNX,
with the field `shape` (of one example) and, if they use them, `num_classes` (0 for an
unconditional network), `condition` (its space), `latent_size` and `width`. They are
called as

    generator(latents, condition, train=...)      [batch, n >= 0] -> [batch, *shape]
    discriminator(examples, condition, train=...) [batch, *shape] -> logits [batch, ...]

The condition is what both players are told of the example, None in an unconditional
GAN; our networks take class labels, `[batch]` int32, pix2pix an image, and cyclegan the
example itself, a pair. Logits may have any shape, such as one for each patch, frame or
domain; ours are `[batch]`, and those of pix2pix and cyclegan of patches. A generator's
field `output` sets the range of its values: 'tanh' is [-1, 1], 'sigmoid' is [0, 1],
'linear' has no bounds; real examples are scaled to the same range. A discriminator each
of whose logits depends on one example, so that real and generated ones may share a
batch, declares `per_example = True`. A network gets every random stream that it asks
for. With `train=False` it changes no statistics.

What published objectives need is in fields of both networks, whose defaults leave it
out; a config reaches them by `--config.generator='attention=16, dropout=0.5'` and
`--config.discriminator='minibatch_std=4, conditioning="concatenation"'`:

    conditioning   how labels enter. G: 'concatenation' to the latents (the default), or
                   'batch_norm', gains and biases by class. D: 'projection' (the
                   default), 'concatenation' to the examples, or 'auxiliary', a
                   classifier of the last features, where D does not see the label
    spectral_norm  of all dense layers and convolutions, and of the projection
    dropout        G: its rate, in sampling too, from the random stream `dropout`
    attention      resnet: side of the feature map that self-attention follows
    minibatch_std  D: examples to a group whose standard deviation is one more input
                   of the last convolution (of mlp's last layer, of musegan's bars)
    norm           dcgan's D: 'batch' or 'none'; pix2pix and cyclegan: 'batch',
                   'instance' or 'none'
    receptive_field  D of pix2pix and cyclegan: side of the patches, 0 for the whole
                   image
    blocks         cyclegan's G: residual blocks

The discriminators of dcgan, mlp and resnet end in `gan_jax.layers.labels.Logits`. Where
a caller makes the collection `intermediates` mutable, it holds under `Logits_0` what
some objectives read: `features [batch, features]`, the input of the last layer, and
with 'auxiliary' `class_logits [batch, num_classes]`.

Networks must work in bfloat16 as well: parameters and inputs are cast to it, the
collections `batch_stats` and `spectral` stay float32.
"""
