"""A module somebody has not finished: the agent that reads it says where it breaks."""


def area(width, height):
    return width * height


def perimeter(width, height
    return 2 * (width + height)
