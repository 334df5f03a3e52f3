"""The network of MaskFormer: backbones, pixel decoder, transformer decoder."""
