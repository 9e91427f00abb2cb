"""Trivial class-style integer nodes, so that only the engine's own cost is measured."""


class TrivialInt:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("INT", {"default": 0, "min": -(2**40), "max": 2**40})}}

    RETURN_TYPES = ("INT",)
    FUNCTION = "run"
    CATEGORY = "benchmark"

    def run(self, value):
        return (value,)


class TrivialAdd:
    @classmethod
    def INPUT_TYPES(cls):
        number = ("INT", {"default": 0, "min": -(2**40), "max": 2**40})
        return {"required": {"a": number, "b": number}}

    RETURN_TYPES = ("INT",)
    FUNCTION = "run"
    CATEGORY = "benchmark"

    def run(self, a, b):
        return (a + b,)


class TrivialSum:
    """Takes any number of inputs v0, v1, …"""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"v0": ("INT", {"default": 0})}}

    RETURN_TYPES = ("INT",)
    FUNCTION = "run"
    CATEGORY = "benchmark"

    def run(self, v0, **more):
        return (v0 + sum(more.values()),)


class TrivialSink:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("INT", {"default": 0})}}

    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True
    CATEGORY = "benchmark"

    def run(self, value):
        return {"ui": {"value": [value]}}


NODE_CLASS_MAPPINGS = {c.__name__: c for c in (TrivialInt, TrivialAdd, TrivialSum, TrivialSink)}
