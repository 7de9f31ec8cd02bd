"""How things are asked: several wordings a task, one of which a seed chooses for each row."""

TRANSCRIBE = (
    "Transcribe the speech.",
    "What is said? Give the words exactly.",
    "Write down what the speaker says.",
    "Please transcribe this recording.",
    "Convert the speech into text.",
)
CAPTION = (
    "Describe what can be heard.",
    "Write a caption for this audio.",
    "What is happening in this recording? Answer in one sentence.",
    "Summarise the sounds in one sentence.",
)
MUSIC = (
    "Describe this music.",
    "Write a description of the piece.",
    "What does this music sound like?",
    "Describe instruments, mood and style of this excerpt.",
)
EMOTION = (
    "What emotion does the speaker express?",
    "How does the speaker feel?",
    "Which emotion is heard in the voice?",
    "Name the emotion of the speaker.",
)
SPOKEN = ("", "Answer the spoken instruction.", "Listen, and do as you are asked.", "Respond to what is said.")
