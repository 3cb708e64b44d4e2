"""A nursery that loads Django and no more: its children need nothing else."""

from jobplatform.embedded import nursery

if __name__ == "__main__":
    nursery.FIRST = nursery.THEN = ()
    nursery.load_the_rest = lambda: None
    nursery.main()
