"""Network families, one file each, with a `Generator` and a `Discriminator`.

Both are Flax modules with the fields `shape` (of one example) and `num_classes` (0 for
an unconditional network), called as

    generator(latents, labels, train=...)      [batch, size] -> [batch, *shape]
    discriminator(examples, labels, train=...) [batch, *shape] -> logits [batch]

A generator of images tells by its field `output` what range they lie in: 'tanh' is
[-1, 1], 'sigmoid' is [0, 1]; real images are brought to the same. A discriminator
whose logits depend on one example each, so that real and generated ones may share a
batch, says so by `per_example = True`.
"""
