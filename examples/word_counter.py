from jobplatform_sdk import Agent

agent = Agent(nats_url="nats://127.0.0.1:4222")  # its key: JOBPLATFORM_API_KEY


@agent.handler
def count(task, context):
    words = task.payload.get("text", task.goal).split()
    context.progress(50, "counted; now the longest")
    return {"words": len(words), "longest": max(words, key=len)}


agent.run()
