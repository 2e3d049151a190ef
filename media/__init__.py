"""Reading, writing and joining video files: containers, streams, frames, colour and time stamps. No model."""
