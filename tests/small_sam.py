"""A small random network in the format of the official weights of Segment Anything, of its real classes."""

from functools import partial

import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import nn


def small_sam(seed=0, side=128, channels=32, depth=2, out=32):
    """Build it as the official package builds the large ones."""
    torch.manual_seed(seed)
    grid = side // 16
    network = Sam(
        ImageEncoderViT(
            img_size=side,
            embed_dim=channels,
            depth=depth,
            num_heads=2,
            out_chans=out,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=3,
            global_attn_indexes=(depth - 1,),
        ),
        PromptEncoder(out, (grid, grid), (side, side), mask_in_chans=16),
        MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=out, num_heads=8, mlp_dim=64),
            transformer_dim=out,
            iou_head_hidden_dim=32,
        ),
    )
    for parameter in network.image_encoder.parameters():  # those that begin at zero are not tested at zero
        nn.init.normal_(parameter, std=0.2)
    return network.eval()
