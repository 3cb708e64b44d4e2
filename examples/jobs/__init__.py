"""Any view method as a job: the three use cases of the specification as code that runs, on real documents and without a network.

    loading → chunking → embedding → library      documents of an org in the platform's vector store
    answering                                     a question, its passages, an answer with sources; a model behind a protocol
    newsroom, agents                              research → analysis → writing → review: what four agents do
    views                                         all of it as jobs of three views

Started with EXAMPLES=true the platform serves the views below /examples/. `python -m examples.jobs` drives them.
"""
