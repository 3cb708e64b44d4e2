from jobplatform_sdk import Agent

agent = Agent()  # JOBPLATFORM_NATS_URL, JOBPLATFORM_API_KEY


@agent.handler
def count(task, context):
    words = task.payload.get("text", task.goal).split()
    context.progress(50, "counted; now the longest")
    return {"words": len(words), "longest": max(words, key=len)}


agent.run()
