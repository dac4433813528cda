"""One device, many devices, several hosts.

`mesh` places arrays on the devices, `hosts` lets the processes of a run agree, and
`checksums` computes the CRC-32 of arrays that no single process holds. Nothing here
knows what a GAN is: a new file takes arrays, trees of arrays or plain values. On one
device, and on one host, every function must cost nothing and change nothing. Every
function that communicates must be called by all hosts, in the same order.
"""
