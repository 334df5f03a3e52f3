"""A convolution and the norm after it."""

from torch import Tensor, nn


class ConvNorm(nn.Conv2d):
    """Convolution without bias, followed by a norm; keeps the size of the map at stride 1."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        norm: nn.Module,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=dilation * (kernel_size // 2),
            dilation=dilation,
            bias=False,
        )
        self.norm = norm

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C', h / stride, w / stride)."""
        return self.norm(super().forward(input))
