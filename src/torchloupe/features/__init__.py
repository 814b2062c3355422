"""What layers compute: hooks, names, shapes, receptive fields, filters, feature maps, top examples."""
