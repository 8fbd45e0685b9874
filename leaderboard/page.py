def html(boards):
    return ""
