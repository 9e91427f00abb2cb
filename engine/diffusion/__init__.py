"""The diffusion library: families, text, samplers, VAE, patches; knows no graph and no server."""
